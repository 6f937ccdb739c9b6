-- Give logins their numbers: of one user and device type the highest stays.
-- KEYS[1]  a key of the shard (any)
-- ARGV     '1' when other systems are told, else '0'; then 6 per login: account, the user's logins, his devices, device
--          type, device (see store/devices.py), when his token was issued (s)
-- Returns  per login: its number, 0 when the account is disabled, -1 when the token is too old
-- Numbers are µs of the clock or the last one + 1: they grow even after the data were lost.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local result = {}
for i = 2, #ARGV, 6 do
  local logins, devices, device_type = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local account = redis.call('HMGET', ARGV[i], 'disabled', 'notBefore')
  if account[1] then
    result[#result + 1] = 0
  elseif account[2] and tonumber(ARGV[i + 5]) < tonumber(account[2]) then
    result[#result + 1] = -1
  else
    local number = math.max(now, tonumber(redis.call('HGET', logins, device_type) or 0) + 1)
    local text = string.format('%.0f', number)
    redis.call('HSET', logins, device_type, text)
    redis.call('HSET', devices, device_type, text .. '\0' .. ARGV[i + 4])
    redis.call('HDEL', devices, 's' .. device_type, 'o' .. device_type)
    if ARGV[1] == '1' then
      local tag, user = string.match(devices, '^(%b{}):d:(.*)$')
      local connection = cmsgpack.unpack(ARGV[i + 4])[3]
      came(tag, user, device_type, text, connection, string.format('%.0f', math.floor(now / 1000)))
    end
    result[#result + 1] = number
  end
end
return result
