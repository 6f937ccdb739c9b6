-- Note when devices were last heard from: of logins whose connection ended, unless a newer one took their place.
-- Who did not log out is in the list of those who left, for ten minutes: pushes may have been kept from him.
-- KEYS[1]  a key of the shard (any)
-- ARGV     5 per login: the user's devices, device type, login number, ms, '1' when it logged out
for i = 1, #ARGV, 5 do
  local record = redis.call('HGET', ARGV[i], ARGV[i + 1])
  if record and string.match(record, '^%d+') == ARGV[i + 2] then
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
