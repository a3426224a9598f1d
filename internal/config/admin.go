package config

func (r *reading) admin(raw *rawAdmin, all *rawConfig) Admin {
	a := Admin{Socket: raw.Socket.Path.value, HTTP: raw.HTTP.Listen.text}
	a.Group = r.group(raw.Socket.Group)
	r.socketPath(raw.Socket.Path.place, a.Socket)
	for _, user := range raw.Writers.items {
		if !userWords.MatchString(user.text) {
			r.fail(user.place, "must be the name or the uid of a user"+user.not(user.text), "")
		}
		a.Writers = append(a.Writers, user.text)
	}
	r.http(&raw.HTTP, all, &a)
	return a
}

// http reads where the pages are. Without an identity they are for this host alone; with one, for those who are named.
func (r *reading) http(raw *rawHTTP, all *rawConfig, a *Admin) {
	const identity = "write slot: NAME, whose identity the pages are served with, and peers: [NAME], the names of those who may look"
	a.HTTPSlot = raw.Slot.text
	slot, peers := a.HTTPSlot != "", len(raw.Peers.items) > 0
	if slot {
		r.known(raw.Slot, &all.Slots, "slot")
	}
	anyone, names := r.peers(&raw.Peers)
	if a.HTTPPeers = names; anyone {
		r.fail(raw.Peers.place, `must name each peer: ["*"] is every endpoint of the environment, and the pages show who connects here and what is wrong`, "write the names that the certificates of those carry who may look")
	}
	switch {
	case slot && !peers:
		r.fail(raw.Peers.place, "slot is named, and nobody who may look", identity)
	case peers && !slot:
		r.fail(raw.Slot.place, "peers are named, and no slot whose environment judges them", identity)
	}
	if a.HTTP == "" {
		if slot || peers {
			r.fail(raw.Listen.place, "slot and peers are named, and no address to listen on", `write listen: "0.0.0.0:9443"`)
		}
		return
	}
	address, _ := r.listenTCP(raw.Listen)
	if address.IsValid() && !address.Addr().IsLoopback() && !slot && !peers {
		r.fail(raw.Listen.place, "must be a loopback address"+raw.Listen.not(a.HTTP), "write 127.0.0.1:9464: the pages have no login; or "+identity[len("write "):])
	}
}
