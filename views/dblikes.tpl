<form id="likeform" method="post" action="/likes">
<label for="likes">What do you like?</label>
<input id="likes" name="likes" maxlength="{{max_like}}" autocomplete="off" dir="auto" required autofocus>
<button>Like</button>
</form>
% if likes:
<ul class="likes">
% for thing in likes:
<li dir="auto">{{thing}}</li>
% end
</ul>
<form id="forgetform" method="post" action="/forget">
<button>Forget Me</button>
</form>
% else:
<p>Nothing yet.</p>
% end
