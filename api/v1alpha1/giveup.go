package v1alpha1

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Annotations of a Shard by which a person gives up Replicas that never come back; docs/operate/lost-replicas.md tells
// people when and how. Nothing of Shale ever sets the first two.
const (
	// GiveUpAnnotation is IDS@EPOCH: all InSync Replicas that cannot serve, and the Epoch in which that is so. The
	// operator takes it off, whether it does it or refuses.
	GiveUpAnnotation = "shale.dev/give-up-replicas"
	// ServeIncompleteAnnotation is the ID of the Replica to serve from although its content is of no one moment.
	ServeIncompleteAnnotation = "shale.dev/serve-incomplete-replica"
	// GivenUpAnnotation lists the Replicas that were given up, as JSON. While a Replica is in it, its storenode keeps
	// what it has, unserved, should it come back after all.
	GivenUpAnnotation = "shale.dev/given-up"
)

// MaxGivenUp bounds the list; the oldest are dropped, and their space is given back if they return.
const MaxGivenUp = 16

// GivenUpReplica is a Replica that a person gave up.
type GivenUpReplica struct {
	ID         int64  `json:"id"`
	DeviceName string `json:"deviceName"`
	NodeName   string `json:"nodeName"`
	// Epoch is the last in which it was InSync.
	Epoch int64 `json:"epoch"`
	// Since when it is given up.
	Since metav1.Time `json:"since"`
}

// GivenUp are the Replicas that were given up. What cannot be read is nothing: annotations are people's to break.
func (s *Shard) GivenUp() []GivenUpReplica {
	var list []GivenUpReplica
	if json.Unmarshal([]byte(s.Annotations[GivenUpAnnotation]), &list) != nil {
		return nil
	}
	return list
}

// IsGivenUp reports whether the Replica was given up.
func (s *Shard) IsGivenUp(id int64) bool {
	for _, g := range s.GivenUp() {
		if g.ID == id {
			return true
		}
	}
	return false
}

// AddGivenUp adds to the list.
func (s *Shard) AddGivenUp(more ...GivenUpReplica) error {
	list := append(s.GivenUp(), more...)
	text, err := json.Marshal(list[max(len(list)-MaxGivenUp, 0):])
	if err != nil {
		return err
	}
	if s.Annotations == nil {
		s.Annotations = map[string]string{}
	}
	s.Annotations[GivenUpAnnotation] = string(text)
	return nil
}
