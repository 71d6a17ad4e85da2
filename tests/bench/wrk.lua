-- The requests that wrk sends: get, first (visit), post, login, or flood (logins with names that nobody has).
-- wrk -s wrk.lua URL -- MODE FILE, where FILE has a session key per line (for login: a username).

local threads = 0

function setup(thread)
  thread:set('id', threads)
  threads = threads + 1
end

function init(args)
  mode, lines, n = args[1], {}, 0
  for line in io.lines(args[2]) do lines[#lines + 1] = line end
  start = id * math.floor(#lines / 2)
  run = os.time()
end

local FORM = 'application/x-www-form-urlencoded'

function request()
  n = n + 1
  local line = lines[(start + n) % #lines + 1]
  if mode == 'get' then
    return wrk.format('GET', '/', {Cookie = 'likes_session=' .. line})
  elseif mode == 'first' then
    return wrk.format('GET', '/')
  elseif mode == 'post' then
    local headers = {Cookie = 'likes_session=' .. line, ['Content-Type'] = FORM}
    return wrk.format('POST', '/likes', headers, 'likes=thing+' .. run .. '+' .. id .. '+' .. n)
  end
  local name = mode == 'login' and line or 'nobody-' .. run .. '-' .. id .. '-' .. n
  return wrk.format('POST', '/login', {['Content-Type'] = FORM}, 'username=' .. name .. '&password=correct+horse')
end

function done(summary, latency)
  local errors = summary.errors
  print('result', summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout)
end
