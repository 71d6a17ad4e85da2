% key = (key or '').strip('"')  # a cleared cookie is two quotes
<section class="panel" aria-label="What the server did">
<h2>The newest requests</h2>
% for story in stories:
<h3>{{story[0]}}</h3>
<ol>
%     for line in story[1:]:
%         before, *others = line.split(key or '\n')
<li{{!' class="cookie"' if line.startswith(('Cookie:', 'Set-Cookie:')) else ''}}>{{before}}\\
%         for after in others:
<mark>{{key}}</mark>{{after}}\\
%         end
</li>
%     end
</ol>
% end
<h2>Your rows in the database</h2>
% if key:
<p>The key in your cookie: <mark>{{key}}</mark></p>
% else:
<p>There is no key in your cookie.</p>
% end
% for table, (names, rows) in tables.items():
<table>
<caption>Table <strong>{{table}}</strong></caption>
<tr>
%     for name in names:
<th scope="col">{{name}}</th>
%     end
</tr>
%     for row in rows:
<tr>
%         for value in row:
%             if value == key:
<td><mark>{{value}}</mark></td>
%             else:
<td dir="auto">{{'NULL' if value is None else value}}</td>
%             end
%         end
</tr>
%     end
%     if not rows:
<tr><td colspan="{{len(names)}}">None.</td></tr>
%     end
</table>
% end
% if not tables:
<p>The database cannot be read just now.</p>
% end
</section>
