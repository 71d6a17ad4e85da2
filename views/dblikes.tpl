% rebase('layout.tpl', offers_login=not username)
<form id="likeform" method="post" action="/likes">
<input type="hidden" name="owner" value="{{username or ''}}">
<label for="likes">What do you like?</label>
<input id="likes" name="likes" autocomplete="off" dir="auto" required pattern="\s*\S[\s\S]*" title="At least one character that is not a space" autofocus aria-describedby="{{'who count' if username else 'count'}}">
<button>Like</button>
</form>
% if likes:
<h2 id="count">You like {{f'{len(likes):,}'}} {{'thing' if len(likes) == 1 else 'things'}}; the newest is <em dir="auto">{{likes[-1]}}</em></h2>
<ul class="likes">
% for thing in likes:
<li dir="auto">{{thing}}</li>
% end
</ul>
<details class="forget">
<summary>Forget Me</summary>
<form id="forgetform" method="post" action="/forget">
<p>This deletes the whole list for good{{' and logs you out; your account stays' if username else ''}}.</p>
<input type="hidden" name="owner" value="{{username or ''}}">
<button>Yes, forget me</button>
</form>
</details>
% else:
<p id="count" class="empty">Nothing here yet. Start with something small that made you smile today.
% if not username:
This site finds your list by a cookie, and keeps it for 30 days from your last like. Where cookies are blocked, the list stays empty.
% end
</p>
% end
