-- clock is the server's time in microseconds, as all times here are.
local function clock()
	local t = redis.call('TIME')
	return t[1] * 1000000 + t[2]
end
