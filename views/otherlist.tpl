% rebase('layout.tpl')
% if username:
<p id="problem">The page where you typed this showed another list. Since then, <strong dir="auto">{{username}}</strong> has logged in here. Nothing has been stored. <em>Send again</em> stores it on the list of <strong dir="auto">{{username}}</strong>.</p>
% else:
<p id="problem">The page where you typed this showed the list of an account, and that login has ended. Nothing has been stored. <em>Send again</em> stores it on this browser's own list.</p>
% end
<form id="likeform" method="post" action="/likes">
<label for="likes">What you typed</label>
<input id="likes" name="likes" value="{{typed}}" autocomplete="off" dir="auto" required pattern="\s*\S[\s\S]*" title="At least one character that is not a space" autofocus aria-describedby="problem">
<button>Send again</button>
</form>
% if not username:
<p>To store it in your account instead: log in, come back to this tab, and press <em>Send again</em> here.</p>
<p><a href="/login" target="_blank">Log in (in a new tab)</a></p>
% end
<p><a href="/">Back to your likes</a></p>
