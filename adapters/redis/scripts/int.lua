-- int writes a number with all of its digits. Numbers are doubles in Lua: microseconds are exact until the year 2255.
local function int(n) return string.format('%.0f', n) end
