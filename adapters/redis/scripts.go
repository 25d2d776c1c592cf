package redis

import (
	"embed"

	goredis "github.com/redis/go-redis/v9"
)

//go:embed scripts/*.lua
var sources embed.FS

// scripts are the atomic steps. Each declares all keys that it touches, which have one hash tag.
type scripts struct {
	begin, renew, complete, release *goredis.Script
	due, forgetOver, forgetHeld     *goredis.Script
}

// serverTime is the scripts as they are used; tests have others, with another clock.
var serverTime = newScripts(source("clock"))

func newScripts(clock string) *scripts {
	script := func(name string) *goredis.Script {
		return goredis.NewScript(clock + source("int") + source(name))
	}
	return &scripts{
		begin: script("begin"), renew: script("renew"), complete: script("complete"), release: script("release"),
		due: script("due"), forgetOver: script("forget_over"), forgetHeld: script("forget_held"),
	}
}

func source(name string) string {
	text, err := sources.ReadFile("scripts/" + name + ".lua")
	if err != nil {
		panic(err) // it is embedded
	}
	return string(text)
}
