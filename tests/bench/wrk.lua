-- The requests that wrk sends. Usage: wrk -s wrk.lua URL -- MODE FILE
-- MODE is get, first (visit), post, login, or flood (logins with names nobody has).
-- FILE has a session key on each line; for login, a username.

local FORM = 'application/x-www-form-urlencoded'
local threads = 0

function setup(thread)
  thread:set('id', threads)
  threads = threads + 1
end

function init(args)
  mode = args[1]
  lines = {}
  for line in io.lines(args[2]) do
    lines[#lines + 1] = line
  end
  start = id * math.floor(#lines / 2)  -- the two threads begin far apart
  run = os.time()
  n = 0
end

function request()
  n = n + 1
  local line = lines[(start + n) % #lines + 1]
  local unique = run .. '-' .. id .. '-' .. n
  if mode == 'get' then
    return wrk.format('GET', '/', {Cookie = 'likes_session=' .. line})
  elseif mode == 'first' then
    return wrk.format('GET', '/', {})
  elseif mode == 'post' then
    return post('/likes', 'likes=thing+' .. unique, 'likes_session=' .. line)
  elseif mode == 'login' then
    return post('/login', 'username=' .. line .. '&password=correct+horse')
  else
    return post('/login', 'username=' .. unique .. '&password=correct+horse')
  end
end

function post(path, body, cookie)
  local headers = {['Content-Type'] = FORM, Cookie = cookie}
  return wrk.format('POST', path, headers, body)
end

function done(summary, latency)
  local seconds = summary.duration / 1e6
  local p50 = latency:percentile(50) / 1e3
  local p99 = latency:percentile(99) / 1e3
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  print('result', summary.requests, seconds, p50, p99, errors)
end
