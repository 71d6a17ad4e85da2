<form id="loginform" method="post" action="/login">
<label for="username">Username</label>
<input id="username" name="username" value="{{name}}" autocomplete="username" autocapitalize="none" spellcheck="false" required{{' autofocus' if focus == 'username' else ''}}>
% if problem:
<p id="problem" role="alert">{{problem}}</p>
% end
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required{{' autofocus' if focus == 'password' else ''}}{{!' aria-describedby="problem"' if problem else ''}}{{!' aria-invalid="true"' if is_wrong else ''}}>
<button>Log in</button>
<p>Anything you have liked here moves to your account, as far as there is room.</p>
<p>No account, or the password forgotten? Ask whoever runs this site.</p>
<p>This site knows you by a cookie: where cookies are blocked, no login lasts.</p>
</form>
