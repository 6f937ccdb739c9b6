-- Tell the archive that something is another now. Marks go into the log of the shard; where no node archives, users' shards
-- have none.
local function mark(tag, kind, id)
  local log = tag .. ':log'
  if redis.call('EXISTS', log) == 1 then redis.call('XADD', log, '*', 'k', kind, 'i', id) end
end

-- The tag, letter and owner of a key `tag:letter:owner`.
local function parts_of(key) return string.match(key, '^(%b{}):(%a+):(.*)$') end
