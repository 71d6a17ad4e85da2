% if problem:
<p id="problem" role="alert">{{problem}}</p>
% end
% include('loginform.tpl', focus='password' if problem else 'username')
