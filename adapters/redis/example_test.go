package redis_test

import (
	"context"
	"log"
	"net/http"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sagamill/sagamill/adapters/redis"
	"github.com/sagamill/sagamill/idempotency"
)

func ExampleNewIdempotencyStore() {
	ctx := context.Background()
	client := goredis.NewClient(&goredis.Options{Addr: "localhost:6379", ContextTimeoutEnabled: true})
	defer func() { _ = client.Close() }()
	keys, err := redis.NewIdempotencyStore(ctx, client, redis.WaitReplicas(1, 500*time.Millisecond))
	if err != nil {
		log.Fatal(err)
	}
	guard, err := idempotency.Middleware(keys, idempotency.Config{})
	if err != nil {
		log.Fatal(err)
	}
	http.Handle("POST /v1/orders", guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// start a saga by the request's key
		w.WriteHeader(http.StatusCreated)
	})))
}
