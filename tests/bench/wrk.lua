-- What wrk sends: arguments are the kind of request and a file of session keys, a line each.
local count = 0

function setup(thread)
  thread:set('thread', count)
  count = count + 1
end

function init(args)
  kind, keys, number = args[1], {}, thread * 1000
  for key in io.lines(args[2]) do keys[#keys + 1] = key end
  run = os.time()
  form = {['Content-Type'] = 'application/x-www-form-urlencoded'}
end

function request()
  number = number + 1
  if kind == 'first' then return wrk.format('GET', '/') end
  if kind == 'login' then
    return wrk.format('POST', '/login', form, 'username=user' .. number % 100 .. '&password=correct+horse')
  end
  if kind == 'flood' then
    return wrk.format('POST', '/login', form, 'username=nobody' .. thread .. '-' .. run .. '-' .. number .. '&password=wrong')
  end
  local cookie = 'likes_session=' .. keys[number % #keys + 1]
  if kind == 'get' then return wrk.format('GET', '/', {Cookie = cookie}) end
  local headers = {Cookie = cookie, ['Content-Type'] = form['Content-Type']}
  return wrk.format('POST', '/likes', headers, 'likes=thing+' .. thread .. '-' .. run .. '-' .. number)
end
