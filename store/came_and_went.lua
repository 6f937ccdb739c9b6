-- Who came and was not told to have gone: the hash `{uNN}:n`, "user type" -> "login number, blank, connection".

local function data_of(user, device_type)
  return '{"user_id":"' .. user .. '","device_type":' .. device_type
end

-- `seen`: when it was last heard from (ms). Nothing when this login was not told of, or has gone already.
local function went(tag, field, value, seen, logged_out)
  if not value or redis.call('HGET', tag .. ':n', field) ~= value then return 0 end
  redis.call('HDEL', tag .. ':n', field)
  local user, device_type = string.match(field, '^(.*) (%d+)$')
  local number = string.match(value, '^%d+')
  local data = data_of(user, device_type) .. ',"last_seen":' .. seen .. ',"logged_out":' .. tostring(logged_out) .. '}'
  happened(tag, user, 'user.offline', 'off-' .. user .. '-' .. device_type .. '-' .. number, data)
  return 1
end

-- Whoever had this device type before has gone with it.
local function came(tag, user, device_type, number, connection, now_ms)
  local field = user .. ' ' .. device_type
  went(tag, field, redis.call('HGET', tag .. ':n', field), now_ms, false)
  redis.call('HSET', tag .. ':n', field, number .. ' ' .. connection)
  local id = 'on-' .. user .. '-' .. device_type .. '-' .. number
  happened(tag, user, 'user.online', id, data_of(user, device_type) .. '}')
end
