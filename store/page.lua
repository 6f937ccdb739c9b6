-- Messages of a group, for a member.
-- KEYS[1]  history of the group
-- ARGV     tag, group, who asks, upper bound of the seqId (inclusive), count
-- Returns  entries, newest first; false when he is not a member
if not redis.call('ZSCORE', ARGV[1] .. ':p:' .. ARGV[2], ARGV[3]) then return false end
return redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[4], '-inf', 'LIMIT', '0', ARGV[5])
