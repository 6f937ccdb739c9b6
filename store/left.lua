-- Note when devices were last heard from: of logins whose connection ended, unless a newer one took their place.
-- Who did not log out is in the list of those who left, for ten minutes: pushes may have been kept from him.
-- KEYS[1]  a key of the shard (any)
-- ARGV     '1' when other systems are told, else '0'; then 6 per login: the user's devices, device type, login number
--          ('0': whichever this connection has), ms, '1' when it logged out, connection

-- Whether a login, "number, separator, more", is the one; `connection` is its own.
local function is_it(login, i, connection)
  if ARGV[i + 2] == '0' then return connection == ARGV[i + 5] end
  return string.match(login, '^%d+') == ARGV[i + 2]
end

local function device_of(record) return cmsgpack.unpack(string.sub(record, #string.match(record, '^%d+') + 2))[3] end

local function tell(i)
  local tag, user = string.match(ARGV[i], '^(%b{}):d:(.*)$')
  local field = user .. ' ' .. ARGV[i + 1]
  local login = redis.call('HGET', tag .. ':n', field)
  if login and is_it(login, i, string.match(login, ' (.*)$')) then
    went(tag, field, login, ARGV[i + 3], ARGV[i + 4] == '1')
  end
end

for i = 2, #ARGV, 6 do
  if ARGV[1] == '1' then tell(i) end
  local record = redis.call('HGET', ARGV[i], ARGV[i + 1])
  if record and is_it(record, i, ARGV[i + 2] == '0' and device_of(record)) then
    redis.call('HSET', ARGV[i], 's' .. ARGV[i + 1], ARGV[i + 3])
    if ARGV[i + 4] == '1' then
      redis.call('HSET', ARGV[i], 'o' .. ARGV[i + 1], '1')
    else
      local tag, user = string.match(ARGV[i], '^(.-):d:(.*)$')
      redis.call('ZADD', tag .. ':w', ARGV[i + 3], user)
      redis.call('ZREMRANGEBYSCORE', tag .. ':w', '-inf', '(' .. string.format('%.0f', ARGV[i + 3] - 600000))
    end
  end
end
return 1
