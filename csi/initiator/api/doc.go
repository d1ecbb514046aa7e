// Package api is what the initiator offers the csi node plugin: JSON over HTTP/1.1 on a unix socket.
//
//	POST   /v1/attach   AttachRequest  → Attachment   same request, same device; idempotent
//	POST   /v1/detach   DetachRequest  → {}           an unknown volume is already detached
//	GET    /v1/volumes                 → VolumeList
//	GET    /v1/health                  → Health
//
// A failure answers with an Error as body; its Code is what callers branch on, its Message is for people. A new field
// may be added to an answer at any time; a request with an unknown field is refused, so that a newer caller learns that
// an older initiator would ignore what it asked. What cannot be said compatibly goes to /v2.
//
// The socket is the authentication: only root reaches it.
package api
