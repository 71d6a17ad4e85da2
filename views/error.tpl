% rebase('layout.tpl', title='This changed nothing' if error.status_code == 409 else title)
% if debug and error.status_code == 503:
%     problem = error.body
% elif debug and error.traceback:
%     problem = 'A handler has raised an error. The traceback is below.'
% end
<p id="problem">{{problem}}</p>
% if form.likes and error.status_code == 409:
<label for="likes">What you typed</label>
<input id="likes" value="{{form.likes}}" dir="auto" readonly>
% elif form.likes:
<form id="likeform" method="post" action="/likes">
% if 'owner' in form:
<input type="hidden" name="owner" value="{{form.owner}}">
% end
<label for="likes">What you typed</label>
<input id="likes" name="likes" value="{{form.likes}}" autocomplete="off" dir="auto" required pattern="\s*\S[\s\S]*" title="At least one character that is not a space" autofocus aria-describedby="problem"{{!' aria-invalid="true"' if error.status_code == 400 else ''}}>
<button>Send again</button>
</form>
% end
% if back == '/login':
<p><a href="/login">Back to the login</a></p>
% else:
<p><a href="/">Back to your likes</a></p>
% end
<p class="status">{{error.status_line}}</p>
% if debug and error.traceback:
<pre>{{error.traceback}}</pre>
% end
