// crypto: random bytes of the host's, never of an image.
(function (host, library) {
  const QUOTA = 65536;
  const integers = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, BigInt64Array, BigUint64Array];
  const hex = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

  class Crypto {
    getRandomValues(array) {
      if (!integers.some((kind) => array instanceof kind)) {
        throw new DOMException('getRandomValues fills an array of integers', 'TypeMismatchError');
      }
      if (array.byteLength > QUOTA) {
        throw new DOMException(`getRandomValues fills at most ${QUOTA} bytes at once`, 'QuotaExceededError');
      }
      host.random(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
      return array;
    }

    randomUUID() {
      const bytes = new Uint8Array(16);
      host.random(bytes);
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      const text = Array.from(bytes, (byte) => hex[byte]).join('');
      return `${text.slice(0, 8)}-${text.slice(8, 12)}-${text.slice(12, 16)}-${text.slice(16, 20)}-${text.slice(20)}`;
    }
  }
  library.define({ Crypto, crypto: new Crypto() });
});
