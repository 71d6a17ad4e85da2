<form id="loginform" method="post" action="/login">
<label for="username">Username</label>
<input id="username" name="username" value="{{name}}" autocomplete="username" autocapitalize="none" spellcheck="false" required{{!' autofocus' if focus == 'username' else ''}}>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required{{!' autofocus aria-describedby=problem' if focus == 'password' else ''}}>
<button>Log in</button>
<p>Anything you have liked here moves to your account.</p>
<p>No account, or the password forgotten? Ask whoever runs this site.</p>
</form>
