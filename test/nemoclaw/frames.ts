/** The messages of a WebSocket's client (RFC 6455, 5.2), as a proxy that looks into it sees them. */

const [CONTINUATION, TEXT] = [0x0, 0x1];

/** Tells the length of each text message, in bytes. Binary messages are not let through. */
export class TextMessages {
  #rest: Buffer = Buffer.alloc(0);
  /** What of a frame is still to come. */
  #missing = 0;
  #length = 0;
  readonly #tell: (length: number) => void;

  constructor(tell: (length: number) => void) {
    this.#tell = tell;
  }

  read(chunk: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const taken = Math.min(this.#missing, this.#rest.length);
      this.#rest = this.#rest.subarray(taken);
      this.#missing -= taken;
      if (this.#missing > 0 || this.#rest.length < 2) return;
      const [first = 0, second = 0] = this.#rest;
      const short = second & 0x7f;
      const extended = short === 127 ? 8 : short === 126 ? 2 : 0;
      if (this.#rest.length < 2 + extended) return;
      const length =
        extended === 8 ? Number(this.#rest.readBigUInt64BE(2)) : extended === 2 ? this.#rest.readUInt16BE(2) : short;
      this.#frame(first, length);
      // The mask is four bytes before what it covers.
      this.#rest = this.#rest.subarray(2 + extended);
      this.#missing = length + (second & 0x80 ? 4 : 0);
    }
  }

  #frame(first: number, length: number): void {
    const opcode = first & 0x0f;
    if (opcode !== TEXT && opcode !== CONTINUATION) {
      if (opcode < 0x8) throw new Error(`a frame of opcode ${opcode} was sent`);
      return;
    }
    this.#length += length;
    if (!(first & 0x80)) return;
    this.#tell(this.#length);
    this.#length = 0;
  }
}
