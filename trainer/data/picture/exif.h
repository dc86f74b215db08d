/*
 * trainer/data/picture/exif.h -- how a photograph is to be held.
 *
 * Source: CIPA DC-008 (Exif 2.32), 4.5.4 and 4.6.5.1.1: an APP1 segment "Exif\0\0" with a TIFF
 * header, whose first directory may have the tag Orientation (0x0112).
 */
#ifndef DATA_PICTURE_EXIF_H
#define DATA_PICTURE_EXIF_H

#include <stddef.h>

/** The orientation of a JPEG, 1 .. 8; 1, as it is stored, also where the file does not say, or says
 * it in a way that cannot be read. 2 and 4: mirrored left to right, and top to bottom; 3: turned by
 * half; 6 and 8: to be turned a quarter to the right, and to the left; 5 and 7: those two mirrored.
 */
int data_exif_orientation(const unsigned char *jpeg, size_t bytes);

#endif
