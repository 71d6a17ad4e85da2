% if problem:
<p id="problem" role="alert">{{problem}}</p>
% end
% include('loginform.tpl', focus='password' if name else 'username')
