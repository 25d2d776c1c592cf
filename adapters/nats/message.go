package nats

import (
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
)

const (
	uuidHeader = "_watermill_message_uuid" // as watermill-nats has it

	encodedPrefix, encodedSuffix = "=?utf-8?B?", "?="
)

func natsMessage(topic string, msg *message.Message) (*nats.Msg, error) {
	header := nats.Header{uuidHeader: {encode(msg.UUID)}}
	for key, value := range msg.Metadata {
		if !validKey(key) {
			return nil, fmt.Errorf("the metadata key %q is no header of NATS", key)
		}
		header[key] = []string{encode(value)}
	}
	return &nats.Msg{Subject: topic, Header: header, Data: msg.Payload}, nil
}

// validKey tells whether a key is what HTTP calls a token. The client leaves out others without a word.
func validKey(key string) bool {
	for _, r := range key {
		if r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r) {
			return false
		}
	}
	return key != "" && key != uuidHeader
}

// encode makes a value fit for a header, which has one line, and no spaces around it.
func encode(value string) string {
	damaged := strings.TrimSpace(value) != value || strings.HasPrefix(value, encodedPrefix) ||
		strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f })
	if !damaged {
		return value
	}
	return encodedPrefix + base64.StdEncoding.EncodeToString([]byte(value)) + encodedSuffix
}

func decode(value string) string {
	text, ok := strings.CutPrefix(value, encodedPrefix)
	text, ended := strings.CutSuffix(text, encodedSuffix)
	plain, err := base64.StdEncoding.DecodeString(text)
	if !ok || !ended || err != nil {
		return value
	}
	return string(plain)
}

// messageOf makes a message of anything: what is none of Watermill's has no UUID, and may have several values for a key.
func messageOf(header nats.Header, data []byte) *message.Message {
	msg := message.NewMessage(decode(header.Get(uuidHeader)), data)
	for key, values := range header {
		if key != uuidHeader {
			msg.Metadata[key] = decode(strings.Join(values, ", "))
		}
	}
	return msg
}
