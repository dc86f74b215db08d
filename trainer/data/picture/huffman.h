/*
 * trainer/data/picture/huffman.h -- the coefficients of a sequential JPEG, read faster than libjpeg
 * does.
 *
 * It takes libjpeg's place in reading the Huffman codes of one scan; all else (inverse DCT,
 * colours) stays libjpeg's. Only whole, healthy data: at the first thing that is odd it fails, and
 * the picture is to be decoded anew without it, so that what becomes of damage is libjpeg's alone.
 *
 * Source: ITU-T T.81, annex F.2; the reader of bits is F. Giesen's ("Reading bits in far too many
 * ways", 2018, variant 4). libjpeg is entered by a pointer of its own interface between modules
 * (jpegint.h), the same since release 6b of 1998.
 */
#ifndef DATA_PICTURE_HUFFMAN_H
#define DATA_PICTURE_HUFFMAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h> /* jpeglib.h needs FILE */

#include <jpeglib.h>

struct data_huffman;

/** One picture after another; a thread has its own. */
struct data_huffman *data_huffman_new(void);
void data_huffman_free(struct data_huffman *huffman);

/** Take over, behind jpeg_start_decompress (at a scale of 1, 1/2, 1/4 or 1/8) and before the first
 * row. Takes cinfo->client_data.
 * Columns outside of x .. x + width - 1 of the output will not be asked for. false: this picture is
 * not for it (progressive, arithmetic, several scans, no end mark, markers in the data); libjpeg is
 * as it was. */
bool data_huffman_begin(struct data_huffman *huffman, struct jpeg_decompress_struct *cinfo,
                        JDIMENSION x, JDIMENSION width);

/** Whether it came upon something odd: rows that libjpeg gave since data_huffman_begin are worth
 * nothing then (or none came at all). What libjpeg did not ask for is not looked at. */
bool data_huffman_failed(const struct data_huffman *huffman);

#endif
