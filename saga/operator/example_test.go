package operator_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/sagamill/sagamill/adapters/memory"
	"github.com/sagamill/sagamill/compensation"
	"github.com/sagamill/sagamill/saga"
	"github.com/sagamill/sagamill/saga/operator"
)

// onDuty says who asks, if that is somebody who may.
func onDuty(r *http.Request) (string, error) {
	name, password, _ := r.BasicAuth()
	if name != "ann" || password != "s3cret" {
		return "", errors.New("you are not on duty")
	}
	return name, nil
}

// A saga is stuck because nobody has told the address; ann skips the step.
func ExampleHandler() {
	type signup struct{ Mail string }
	signUp := saga.Linear("sign-up",
		saga.Do("create-account", func(context.Context, signup) error { return nil }).Pivot(),
		saga.Do("welcome", func(context.Context, signup) error { return errors.New("no address") }).
			Retriable().Retry(compensation.Retry{First: time.Hour, Max: time.Hour, Alert: 1}),
	)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o, err := saga.NewOrchestrator(memory.NewStore(), saga.OrchestratorConfig{Definitions: []saga.AnyDefinition{signUp}}, nil)
	must(err)
	go func() { must(o.Run(ctx)) }()
	defer func() { must(o.Close()) }()
	started, err := signUp.Start(ctx, o, saga.StartParams[signup]{Key: "ben"})
	must(err)
	_, err = o.WaitFor(ctx, started.ID, func(i saga.Instance) bool { return i.Attention != "" })
	must(err)

	mux := http.NewServeMux()
	desk, err := operator.Handler(o, operator.Config{Who: onDuty})
	must(err)
	mux.Handle("/operator/", http.StripPrefix("/operator", desk))

	r := httptest.NewRequest("POST", "/operator/sagas/"+started.ID+"/operations", strings.NewReader(
		`{"verb": "skip-step", "step": "welcome", "why": "there is no address"}`))
	r.SetBasicAuth("ann", "s3cret")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Println(w.Code)
	ended, err := signUp.Wait(ctx, o, "ben")
	must(err)
	fmt.Println(ended.State)
	// Output:
	// 200
	// completed
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
