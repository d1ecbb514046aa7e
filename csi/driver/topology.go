package driver

import "github.com/container-storage-interface/spec/lib/go/csi"

// The one topology segment that there is: nodes with the node plugin reach every Volume, others none. It keeps pods
// from nodes without the plugin, and is what the room that is left (CSIStorageCapacity) is told for.
const (
	TopologyKey   = Name + "/storage"
	TopologyValue = "reachable"
)

// Topology is the segment of every node that runs the plugin.
func Topology() map[string]string { return map[string]string{TopologyKey: TopologyValue} }

// accessible is where a Volume can be used.
func accessible() []*csi.Topology { return []*csi.Topology{{Segments: Topology()}} }

// reaches reports whether Volumes can be used at t; a segment that names nothing of ours excludes nothing.
func reaches(t *csi.Topology) bool {
	value, named := t.GetSegments()[TopologyKey]
	return !named || value == TopologyValue
}

// anyReaches reports whether a Volume can be made as r asks: preferences do not bind.
func anyReaches(r *csi.TopologyRequirement) bool {
	for _, t := range r.GetRequisite() {
		if reaches(t) {
			return true
		}
	}
	return len(r.GetRequisite()) == 0
}
