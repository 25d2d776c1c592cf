package redisstream

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"
)

// entryKey carries the ID of an entry from the client to the subscriber, as Watermill's does not tell it.
const entryKey = "_sagamill_entry"

// MalformedKey is the metadata key of an entry that is no message of Watermill's. It says why; the payload is the entry as JSON.
const MalformedKey = "_malformed"

// identify is a hook of the client: it writes each entry's ID into the entry, and counts the commands that are under way.
type identify struct{ calls *calls }

func (identify) DialHook(next redis.DialHook) redis.DialHook { return next }

func (identify) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h identify) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.calls.begin()
		defer h.calls.end()
		err := next(ctx, cmd)
		switch answer := cmd.(type) {
		case *redis.XStreamSliceCmd:
			for _, stream := range answer.Val() {
				identifyAll(stream.Messages)
			}
		case *redis.XMessageSliceCmd:
			identifyAll(answer.Val())
		}
		return err
	}
}

// calls counts commands that are under way. One may begin within another: a client that connects says hello first.
type calls struct {
	mu    sync.Mutex
	count int
	ended sync.Cond // its L is mu
}

func newCalls() *calls {
	c := &calls{}
	c.ended.L = &c.mu
	return c
}

func (c *calls) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count++
}

func (c *calls) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count--; c.count == 0 {
		c.ended.Broadcast()
	}
}

// wait returns at a moment when none is under way.
func (c *calls) wait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.count > 0 {
		c.ended.Wait()
	}
}

func identifyAll(entries []redis.XMessage) {
	for i := range entries {
		if entries[i].Values == nil {
			entries[i].Values = map[string]any{}
		}
		entries[i].Values[entryKey] = entries[i].ID
	}
}

// tolerant makes a message of any entry. An error would end the subscription, again and again.
type tolerant struct{}

// Unmarshal implements redisstream.Unmarshaller.
func (tolerant) Unmarshal(values map[string]any) (msg *message.Message, err error) {
	id, _ := values[entryKey].(string)
	delete(values, entryKey)
	msg, err = unmarshal(values)
	if err != nil {
		payload, _ := json.Marshal(values) // strings
		msg = message.NewMessage(id, payload)
		msg.Metadata.Set(MalformedKey, err.Error())
	}
	msg.Metadata.Set(entryKey, id)
	return msg, nil
}

func unmarshal(values map[string]any) (msg *message.Message, err error) {
	defer func() {
		if v := recover(); v != nil { // msgpack does on some input
			err = fmt.Errorf("%v", v)
		}
	}()
	return redisstream.DefaultMarshallerUnmarshaller{}.Unmarshal(values)
}
