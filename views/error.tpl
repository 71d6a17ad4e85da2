% rebase('layout.tpl')
% texts = {
%     404: 'There is no such page here.',
%     405: 'This address does not take requests of that kind.',
%     411: 'The form came without its length (Content-Length).',
%     413: 'That is far too much: a form has at most 100 KB.',
%     415: 'A form is expected as application/x-www-form-urlencoded.',
%     416: 'The file has no such part.',
%     500: 'This is an error of the site, not of yours. It has been logged.',
%     503: 'The lists cannot be reached just now, and what you sent may not have been saved. Please try again in a few seconds.',
% }
<p id="problem">{{texts.get(error.status_code, error.body)}}</p>
% if typed:
<form id="likeform" method="post" action="/likes">
<label for="likes">What you typed</label>
<input id="likes" name="likes" value="{{typed}}" maxlength="{{max_length}}" autocomplete="off" dir="auto" required autofocus aria-describedby="problem">
<button>Send again</button>
</form>
% end
<p><a href="/">Back to your likes</a></p>
<p class="status">{{error.status_line}}</p>
% if debug and error.traceback:
<pre>{{error.traceback}}</pre>
% end
