-- A user's friends: those that changed, and all.
-- KEYS[1]  his friends
-- ARGV     tag, user, after (stamp), at most so many that changed
-- Returns  the store's time (µs), 3 per friend with a stamp above `after`, ascending: friend, stamp, remark; all ids
local time = call('TIME')
local remarks = ARGV[1] .. ':a:' .. ARGV[2]
local rows = call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[3], '+inf', 'WITHSCORES', 'LIMIT', '0', ARGV[4])
local changed = {}
for i = 1, #rows, 2 do
  changed[#changed + 1] = rows[i]
  changed[#changed + 1] = text(tonumber(rows[i + 1]))
  changed[#changed + 1] = call('HGET', remarks, rows[i] .. '\0REMARK') or ''
end
return {text(tonumber(time[1]) * 1000000 + tonumber(time[2])), changed, call('ZRANGE', KEYS[1], 0, -1)}
