<p>{{text}}</p>
<p><a href="/">Back to your likes</a></p>
% if traceback:
<pre>{{traceback}}</pre>
% end
