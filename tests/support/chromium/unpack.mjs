// Takes the files of the browser's package apart: node unpack.mjs FOLDER_OF_THE_PACKAGE'S_FILES TARGET
import fs from "node:fs"
import { pipeline } from "node:stream/promises"
import zlib from "node:zlib"

const [from, to] = process.argv.slice(2)
const unpack = (name) =>
  pipeline(fs.createReadStream(`${from}/${name}.br`), zlib.createBrotliDecompress(), fs.createWriteStream(`${to}/${name}`))
await Promise.all(["chromium", "al2023.tar", "fonts.tar"].map(unpack))
