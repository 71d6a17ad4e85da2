<form id="loginform" method="post" action="/login">
<label for="username">Username</label>
<input id="username" name="username" value="{{name}}" maxlength="100" autocomplete="username" autocapitalize="none" spellcheck="false" required{{' autofocus' if focus == 'username' else ''}}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required{{' autofocus aria-describedby=problem' if focus == 'password' else ''}}>
<button>Log in</button>
<p>The list you have here moves to your account.</p>
</form>
