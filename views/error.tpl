% rebase('layout.tpl')
<p id="problem">{{problem}}</p>
% if typed and error.status_code == 409:
<label for="likes">What you typed</label>
<input id="likes" value="{{typed}}" dir="auto" readonly>
% elif typed:
<form id="likeform" method="post" action="/likes">
<label for="likes">What you typed</label>
<input id="likes" name="likes" value="{{typed}}" autocomplete="off" dir="auto" required autofocus aria-describedby="problem"{{!' aria-invalid="true"' if error.status_code == 400 else ''}}>
<button>Send again</button>
</form>
% end
<p><a href="/">Back to your likes</a></p>
<p class="status">{{error.status_line}}</p>
% if debug and error.traceback:
<pre>{{error.traceback}}</pre>
% end
