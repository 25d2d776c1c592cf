package redis

// OnClock lets the store's scripts take the time from a key instead of the server's clock; see [ClockKey]. They are the scripts
// that are shipped in all else.
func OnClock() Option { return func(o *options) { o.scripts = onClock } }

var onClock = newScripts(`local function clock() return tonumber(redis.call('GET', string.match(KEYS[1], '^{.-}:') .. 'clock')) end
`)

// ClockKey is the key of the clock of stores with a prefix, in microseconds.
func ClockKey(prefix string) string { return "{" + prefix + "}:clock" }

// Keys are the keys of a store with a prefix that are no records.
func Keys(prefix string) (over, held, counter string) {
	k := newKeys(prefix)
	return k.over, k.held, k.counter
}

// RecordKey is the key of a record.
var RecordKey = func(prefix, key string) string { return newKeys(prefix).records + key }

// Judge judges what a server tells of itself.
func Judge(info, appendfsync string, replicas int, clusterClient bool) []Warning {
	return facts{parseInfo(info), appendfsync, replicas, clusterClient}.judge()
}

// MaxPage is how many records a script looks at.
const MaxPage = maxPage
