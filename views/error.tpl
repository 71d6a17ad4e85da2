<p>{{text}}</p>
<p><a href="/">Back to your likes</a></p>
<p class="status">{{status}}</p>
% if traceback:
<pre>{{traceback}}</pre>
% end
