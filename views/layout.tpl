<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="description" content="Type what you like, and this page remembers it.">
<meta name="color-scheme" content="light dark">
<title>{{title}} - Likes</title>
<link rel="stylesheet" href="/static/style.css">
<link rel="icon" type="image/svg+xml" href="/static/icon.svg">
</head>
<body>
<header>
<a class="home" href="/">Likes</a>
% if get('username'):
<form id="logoutform" method="post" action="/logout">
<span id="who">Logged in as <strong dir="auto">{{username}}</strong></span>
<button name="logout">Log out</button>
</form>
% elif get('offers_login'):
<details>
<summary>Log in</summary>
% include('loginform.tpl', name='', problem='', is_wrong=False, focus='')
</details>
% end
</header>
<main>
<h1>{{title}}</h1>
{{!base}}
</main>
</body>
</html>
