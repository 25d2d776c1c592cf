package watermillsql

import (
	"fmt"
	"regexp"
	"strings"
)

// maxTopic leaves room for "watermill_offsets_" in PostgreSQL's 63 bytes.
const maxTopic = 45

var topicCharacters = regexp.MustCompile(`^[A-Za-z0-9\-$:._]+$`)

func validTopic(topic string) error {
	switch {
	case !topicCharacters.MatchString(topic):
		return fmt.Errorf("watermillsql: the topic %.80q is a table's name: it takes letters, digits and -$:._", topic)
	case len(topic) > maxTopic:
		return fmt.Errorf("watermillsql: the topic %.80q has %d characters: it takes %d at most", topic, len(topic), maxTopic)
	case strings.HasPrefix(topic, "offsets_"):
		return fmt.Errorf("watermillsql: the topic %q must not begin with offsets_: its table would be that of another topic's offsets", topic)
	}
	return nil
}

func validGroup(group string) error {
	if group == "" || len(group) > 255 || strings.ContainsRune(group, 0) {
		return fmt.Errorf("watermillsql: the group %.40q has %d bytes: it takes 1 to 255, none of them zero", group, len(group))
	}
	return nil
}
