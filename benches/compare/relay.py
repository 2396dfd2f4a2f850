"""A TCP relay on loopback that delays what it passes on, and counts the round trips of TLS handshakes."""

import asyncio
import threading

HANDSHAKE, APPLICATION_DATA = 22, 23


class Flights:
    """Counts the round trips that a TLS client needs before its first application data.

    Each flight of the client with a readable handshake record waits for an answer of the server, unless application data
    follows in the same flight. In TLS 1.3 such a flight is the ClientHello, and after a HelloRetryRequest another one.
    """

    def __init__(self):
        self.round_trips, self.is_done = 0, False
        self.is_clients_turn, self.rest = True, b""

    def from_client(self, data):
        self.rest += data
        while len(self.rest) >= 5 and not self.is_done:
            kind, length = self.rest[0], 5 + int.from_bytes(self.rest[3:5], "big")
            if kind == APPLICATION_DATA:
                self.is_done = True
                # The last flight waited for nothing.
                self.round_trips -= not self.is_clients_turn
            if len(self.rest) < length:
                break
            if kind == HANDSHAKE and self.is_clients_turn:
                self.round_trips += 1
                self.is_clients_turn = False
            self.rest = self.rest[length:]

    def from_server(self, _):
        self.is_clients_turn = True


class Relay:
    """Listens on a free port, and relays connections to another port of loopback."""

    def __init__(self, to, delay=0):
        """`delay` is in seconds, for each direction. TCP connections are made without delay."""
        self.to, self.delay, self.flights = to, delay, []
        self.loop = asyncio.new_event_loop()
        server = self.loop.run_until_complete(asyncio.start_server(self.relay, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        # Ends with this process.
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def round_trips(self):
        """The round trips of each handshake after which a request was sent."""
        return [flights.round_trips for flights in self.flights if flights.is_done]

    async def relay(self, reader, writer):
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.to)
        flights = Flights()
        self.flights.append(flights)
        await asyncio.gather(self.pump(reader, to_writer, flights.from_client),
                             self.pump(to_reader, writer, flights.from_server))

    async def pump(self, reader, writer, look):
        try:
            while data := await reader.read(65536):
                look(data)
                self.loop.call_later(self.delay, writer.write, data)
        except ConnectionError:
            # One side broke off, so the other loses its connection too.
            pass
        self.loop.call_later(self.delay, writer.close)
