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
<form id="forgetform" method="post" action="/forget">
<button>Forget Me</button>
<p>Deletes the whole list for good{{' and logs you out' if username else ''}}.</p>
</form>
% else:
<p class="empty">Nothing here yet. Start with something small that made you smile today.</p>
% end
