-- End logins: number them over, so that those that there are are kicked out; and shut the account, or open it.
-- KEYS     account, the user's logins, his devices
-- ARGV     device type (0: all), login number that it must have ('' = any), '1' disable, '0' enable, '' neither,
--          time (s) before which tokens count no more ('' = as it is; it only rises)
-- Returns  the new number, 0 when there was no such login
local tag, _, user = parts_of(KEYS[1])
if ARGV[3] ~= '' or ARGV[4] ~= '' then mark(tag, 'users', user) end
if ARGV[3] == '1' then redis.call('HSET', KEYS[1], 'disabled', '1') end
if ARGV[3] == '0' then
  redis.call('HDEL', KEYS[1], 'disabled')
  return 0
end
if ARGV[4] ~= '' then
  local before = tonumber(redis.call('HGET', KEYS[1], 'notBefore') or 0)
  if tonumber(ARGV[4]) < before then return 0 end
  redis.call('HSET', KEYS[1], 'notBefore', ARGV[4])
end
if ARGV[2] ~= '' then
  local record = redis.call('HGET', KEYS[3], ARGV[1])
  if not record or string.match(record, '^%d+') ~= ARGV[2] then return 0 end
end
local time = redis.call('TIME')
local number = tonumber(time[1]) * 1000000 + tonumber(time[2])
local types = {ARGV[1]}
if ARGV[1] == '0' then types = redis.call('HKEYS', KEYS[2]) end
local found = false
for _, device_type in ipairs(types) do
  local last = redis.call('HGET', KEYS[2], device_type)
  if last then
    found = true
    number = math.max(number, tonumber(last) + 1)
  end
end
if not found then return 0 end
for _, device_type in ipairs(types) do redis.call('HSET', KEYS[2], device_type, string.format('%.0f', number)) end
return number
