-- Note activity in sessions for users. Harmless when run twice: a later stamp for the same session.
-- KEYS[1]  a key of the shard (any), so that a Cluster routes the script
-- ARGV     2 per item: key of the user's recent sessions, session
local time = redis.call('TIME')
for i = 1, #ARGV, 2 do note(ARGV[i], ARGV[i + 1], tonumber(time[1]) * 1000000 + tonumber(time[2])) end
keep_stamps()
return 1
