-- Tell other systems, in the log of the shard, behind what was stored before. Ids need no escaping in JSON.
local function happened(tag, key, kind, id, data)
  redis.call('XADD', tag .. ':log', '*', 'h', key, 't', kind, 'i', id, 'd', data)
end
