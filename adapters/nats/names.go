package nats

import (
	"fmt"
	"strings"
)

// storedName is how a topic's stream or a group's consumer is named.
func storedName(name string) string { return strings.ReplaceAll(name, ".", "=") }

// validName refuses what NATS does not take as a subject, or JetStream as a name.
func validName(what, name string) error {
	if name == "" || len(name) > 200 {
		return fmt.Errorf("nats: the %s %.40q has %d bytes: it takes 1 to 200", what, name, len(name))
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
		default:
			return fmt.Errorf("nats: the %s %q takes letters, digits and -_.", what, name)
		}
	}
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.Contains(name, "..") {
		return fmt.Errorf("nats: the %s %q has an empty part between its dots", what, name)
	}
	return nil
}
