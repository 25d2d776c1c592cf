-- KEYS: record, over, held, counter
-- ARGV: fingerprint ('' is none), lease, AbandonedAfter, id of this attempt, greatest token that the caller has seen
local record, over, held, counter = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local fingerprint, lease, abandoned, attempt, seen = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local now = clock()

local r = redis.call('HMGET', record, 'token', 'until', 'fingerprint', 'completed', 'holds', 'attempt')
local token, till, known, completed = r[1], tonumber(r[2]), r[3], r[4]
if token and not (completed and now >= till and r[5] == '') then
	if fingerprint ~= '' and known ~= '' and fingerprint ~= known then
		return {'mismatch'}
	end
	if completed then
		local response = redis.call('HMGET', record, 'status', 'header', 'body')
		return {'completed', response[1], response[2], response[3]}
	end
	if r[6] == attempt then -- this very call was made before, and its answer was lost
		return {'acquired', token, token}
	end
	if now < till then
		return {'in flight', int(till - now)}
	end
	if fingerprint == '' then
		fingerprint = known
	end
end

-- The counter alone would begin again if it were lost, the time alone could be set back.
local last = tonumber(redis.call('GET', counter) or '0')
local granted = math.max(last + 1, seen + 1, now)
if granted >= 2 ^ 53 then
	return redis.error_reply('ERR no token after ' .. int(last))
end
-- First a command that is refused when memory is short: then nothing has changed.
redis.call('SET', counter, int(granted))
redis.call('DEL', record)
redis.call('HSET', record, 'token', int(granted), 'until', int(now + lease), 'fingerprint', fingerprint, 'holds', '', 'attempt', attempt)
redis.call('ZADD', over, int(now + lease + abandoned), record)
redis.call('ZREM', held, record) -- an entry that outlived its record, which was evicted
return {'acquired', int(granted), int(last)}
