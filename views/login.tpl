% rebase('layout.tpl')
% if get('wait'):
<p id="problem" role="alert">Too many logins with this name have failed. For {{(wait + 59) // 60}} min. even the right password does not work.</p>
% elif title == 'Login failed':
<p id="problem" role="alert">Login failed, please try again: this name and this password do not match.</p>
% end
% include('loginform.tpl', focus='password' if name else 'username')
