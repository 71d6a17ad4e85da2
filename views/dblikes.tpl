<form id="likeform" method="post" action="/likes">
<label for="likes">What do you like?</label>
<input id="likes" name="likes" maxlength="{{max_like}}" autocomplete="off" dir="auto" required autofocus>
<button>Like</button>
</form>
% if likes:
<h2>You like {{len(likes)}} {{'thing' if len(likes) == 1 else 'things'}}</h2>
<ul class="likes">
% for thing in likes:
<li dir="auto">{{thing}}</li>
% end
</ul>
<details class="forget">
<summary>Forget Me</summary>
<form id="forgetform" method="post" action="/forget">
<p>This deletes the whole list for good{{' and logs you out' if username else ''}}.</p>
<input type="hidden" name="username" value="{{username or ''}}">
<button>Yes, forget me</button>
</form>
</details>
% else:
<p class="empty">Nothing here yet. Start with something small that made you smile today.</p>
% end
