<p>{{text}}</p>
<p><a href="/">Back to your likes</a></p>
<p class="status">{{error.status_line}}</p>
% if debug and error.traceback:
<pre>{{error.traceback}}</pre>
% end
