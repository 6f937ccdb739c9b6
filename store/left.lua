-- Note when devices were last heard from: of logins whose connection ended, unless a newer one took their place.
-- KEYS[1]  a key of the shard (any)
-- ARGV     4 per login: the user's devices, device type, login number, ms
for i = 1, #ARGV, 4 do
  local record = redis.call('HGET', ARGV[i], ARGV[i + 1])
  if record and string.match(record, '^%d+') == ARGV[i + 2] then
    redis.call('HSET', ARGV[i], 's' .. ARGV[i + 1], ARGV[i + 3])
  end
end
return 1
