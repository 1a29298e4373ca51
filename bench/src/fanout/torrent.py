"""One end of a BitTorrent swarm, for `shoal-bench fanout --mode bittorrent`.

    torrent.py seed  TORRENT DIR ADDRESS:PORT PIECE_BYTES
    torrent.py leech TORRENT DIR ADDRESS:PORT PEER,PEER,...

A seed makes TORRENT of the file `layer` in DIR and shares it. A leech fetches it into DIR, tells how that went, and shares it
until standard input is closed. Both say `ready`; a leech begins when a line comes on standard input.
"""

import hashlib
import json
import sys
import time

import libtorrent as lt


def session(address):
    return lt.session(
        {
            "listen_interfaces": address,
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "allow_multiple_connections_per_ip": True,
            # Both ends are on links of a known rate: what is sent is not to be hidden or slowed for others.
            "in_enc_policy": int(lt.enc_policy.disabled),
            "out_enc_policy": int(lt.enc_policy.disabled),
            "enable_outgoing_utp": False,
            "enable_incoming_utp": False,
            "alert_mask": 0,
        }
    )


def say(text):
    print(text, flush=True)


def digest(path):
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def seed(torrent, folder, address, piece_bytes):
    files = lt.file_storage()
    lt.add_files(files, folder + "/layer")
    made = lt.create_torrent(files, int(piece_bytes), lt.create_torrent.v1_only)
    lt.set_piece_hashes(made, folder)
    with open(torrent, "wb") as file:
        file.write(lt.bencode(made.generate()))
    ses = session(address)
    handle = ses.add_torrent({"ti": lt.torrent_info(torrent), "save_path": folder, "flags": lt.torrent_flags.seed_mode})
    say("ready")
    sys.stdin.read()
    say(str(handle.status().total_payload_upload))


def leech(torrent, folder, address, peers):
    ses = session(address)
    say("ready")
    if not sys.stdin.readline():
        return
    began = time.monotonic()
    handle = ses.add_torrent({"ti": lt.torrent_info(torrent), "save_path": folder})
    for peer in peers.split(","):
        host, port = peer.rsplit(":", 1)
        handle.connect_peer((host, int(port)))
    first = None
    while True:
        status = handle.status()
        if first is None and status.num_pieces > 0:
            first = time.monotonic() - began
        if status.is_seeding:
            break
        time.sleep(0.02)
    seconds = time.monotonic() - began
    say(json.dumps({"first_byte": first, "seconds": seconds, "digest": digest(folder + "/layer")}))
    sys.stdin.read()


{"seed": seed, "leech": leech}[sys.argv[1]](*sys.argv[2:])
