% rebase('layout.tpl')
% if get('wait'):
%     problem = f'Too many logins have failed. For {(wait + 59) // 60} min. even the right password does not work.'
% elif failed:
%     problem = 'Login failed, please try again: name and password do not match.'
% else:
%     problem = ''
% end
% include('loginform.tpl', problem=problem, is_wrong=failed and not get('wait'), focus='password' if name else 'username')
