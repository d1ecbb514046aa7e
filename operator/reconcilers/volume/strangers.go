package volume

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/shale-storage/shale/api/v1alpha1"
	"github.com/shale-storage/shale/operator/reconcilers"
)

// apart are the Shards of the Volume, and strangers: those of a Volume that had the same name and another ID. The
// object of that one was lost, its data was not. What strangers hold is not this Volume's to serve, count or delete.
func apart(v *v1alpha1.Volume, named []v1alpha1.Shard) (ours, strangers []v1alpha1.Shard) {
	for i := range named {
		if named[i].Spec.VolumeID == v.Spec.ID {
			ours = append(ours, named[i])
		} else {
			strangers = append(strangers, named[i])
		}
	}
	return ours, strangers
}

// taken reports whether a stranger has the name of a missing Shard, and says so. Then no Shard is made.
func (r *Reconciler) taken(s *scope, missing []*v1alpha1.Shard) bool {
	for i := range s.strangers {
		stranger := &s.strangers[i]
		for _, shard := range missing {
			if shard.Name != stranger.Name {
				continue
			}
			s.unmade = &reconcilers.Verdict{Reason: v1alpha1.ReasonOtherVolume, Message: fmt.Sprintf(
				"shard %s is of a volume with the id %s, and the id of this one is %s: it is neither used nor deleted, "+
					"and the volume cannot be made beside it: see docs/operate/missing-shards.md",
				stranger.Name, stranger.Spec.VolumeID, s.volume.Spec.ID)}
			if c := readiness(s.volume); c == nil || c.Reason != v1alpha1.ReasonOtherVolume {
				r.Events.Eventf(s.volume, nil, corev1.EventTypeWarning, v1alpha1.ReasonOtherVolume, "Make", "%s",
					s.unmade.Message)
			}
			return true
		}
	}
	return false
}
