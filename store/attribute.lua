-- Set or clear an attribute.
-- KEYS     the attributes, the stamp key of this shard, the friends
-- ARGV     subject, name, value ('' clears), names that a subject may have, fields that the hash may have,
--          whether it is about a user ('1' or '0')
-- Returns  0 too many, 1 done, 2 done and a friend's remark is now another (53 brings it)
local key, subject, name, value = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local before = call('HGET', key, subject .. '\0' .. name)
if (before or '') == value then return 1 end
if value == '' then
  clear_attribute(key, subject, name)
else
  if not before and (#names_of(key, subject) >= tonumber(ARGV[4]) or call('HLEN', key) >= tonumber(ARGV[5])) then
    return 0
  end
  set_attribute(key, subject, name, value)
end
if name ~= 'REMARK' or ARGV[6] == '0' or not call('ZSCORE', KEYS[3], subject) then return 1 end
call('ZADD', KEYS[3], text(new_stamp(KEYS[2])), subject)
local tag, _, user = parts_of(key)
mark(tag, 'friends', user .. '\0' .. subject)
return 2
